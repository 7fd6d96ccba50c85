"""The kinds of Moves of commerce, a module for each family; all of them data (see `engine.kinds`).

Moves meet on accounts, not in code: an order is paid by whatever funds `L:order/{order}`, and what may be
reversed of anything is what `M:reversible/{move}#{line}/{tender}` still has.
"""

from typing import Final

from engine.commerce.affiliates import AFFILIATE_COMMISSION
from engine.commerce.checkout import CHECKOUT
from engine.commerce.currency_orders import CURRENCY_ORDER
from engine.commerce.disputes import DISPUTE
from engine.commerce.escrow import ESCROW, RESERVE_RELEASE
from engine.commerce.gift_cards import GIFT_CARD, GIFT_CARD_REDEMPTION
from engine.commerce.inventory import GOODS_RECEIPT, STOCK_ORDER, STOCK_RETURN
from engine.commerce.loyalty import POINTS_EARNED, POINTS_EXPIRY, POINTS_REDEMPTION
from engine.commerce.net_terms import NET_TERMS_ORDER, RECEIPT
from engine.commerce.orders import MARKETPLACE_ORDER, SALE
from engine.commerce.payments import PAYMENT, SETTLEMENT
from engine.commerce.payouts import AFFILIATE_PAYOUT, PAYOUT, PAYOUT_BATCH
from engine.commerce.promotions import CAMPAIGN, PROMOTION_USE
from engine.commerce.refunds import MARKETPLACE_REFUND
from engine.commerce.store_credit import STORE_CREDIT, STORE_CREDIT_SPEND
from engine.commerce.subscriptions import SUBSCRIPTION

COMMERCE_KINDS: Final = (
    MARKETPLACE_ORDER,
    SALE,
    PAYMENT,
    SETTLEMENT,
    MARKETPLACE_REFUND,
    DISPUTE,
    ESCROW,
    RESERVE_RELEASE,
    PAYOUT_BATCH,
    PAYOUT,
    GIFT_CARD,
    GIFT_CARD_REDEMPTION,
    STORE_CREDIT,
    STORE_CREDIT_SPEND,
    NET_TERMS_ORDER,
    RECEIPT,
    SUBSCRIPTION,
    CURRENCY_ORDER,
    POINTS_EARNED,
    POINTS_REDEMPTION,
    POINTS_EXPIRY,
    AFFILIATE_COMMISSION,
    GOODS_RECEIPT,
    AFFILIATE_PAYOUT,
    STOCK_ORDER,
    STOCK_RETURN,
    CAMPAIGN,
    PROMOTION_USE,
    CHECKOUT,
)
