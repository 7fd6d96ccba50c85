-- A ledger as a team would write it on PostgreSQL: three tables and one function. The function locks both
-- accounts in the order of their ids, so that two transfers cannot wait for each other, and a transfer that
-- is sent again changes nothing. There are no foreign keys: the function has found and locked both accounts.

create table account (
    id uuid primary key,
    asset int not null,
    balance bigint not null default 0,
    least_balance bigint,  -- null = the account may owe any amount
    check (balance >= least_balance)
) with (fillfactor = 50);  -- room to update a balance in place

create table transfer (
    id uuid primary key,
    debit uuid not null,
    credit uuid not null,
    amount bigint not null check (amount >= 0),
    created timestamptz not null default clock_timestamp()
);

create table entry (
    transfer uuid not null,
    account uuid not null,
    amount bigint not null,
    created timestamptz not null default clock_timestamp(),
    primary key (account, created, transfer)
);

create function make_transfer(new_id uuid, debited uuid, credited uuid, moved bigint) returns text
language plpgsql as $$
declare
    found_accounts int;
    found_assets int;
begin
    if debited = credited then
        return 'accounts_must_be_different';
    end if;
    select count(*), count(distinct locked.asset) into found_accounts, found_assets
    from (select asset from account where id in (debited, credited) order by id for update) as locked;
    if found_accounts < 2 then
        return 'account_not_found';
    elsif found_assets > 1 then
        return 'accounts_must_have_the_same_asset';
    end if;
    insert into transfer (id, debit, credit, amount) values (new_id, debited, credited, moved)
    on conflict (id) do nothing;
    if not found then
        perform from transfer
        where id = new_id and debit = debited and credit = credited and amount = moved;
        return case when found then 'exists' else 'exists_with_different_content' end;
    end if;
    update account set balance = balance - moved where id = debited;
    update account set balance = balance + moved where id = credited;
    insert into entry (transfer, account, amount) values (new_id, debited, -moved), (new_id, credited, moved);
    return 'created';
end
$$;

-- Many transfers in one call, which is one commit: as above, but set by set. Returns how many were new.
create function make_transfers(ids uuid[], debits uuid[], credits uuid[], amounts bigint[]) returns bigint
language plpgsql as $$
declare
    made bigint;
begin
    perform from account
    where id in (select unnest(debits) union select unnest(credits))
    order by id
    for update;
    with
        given as (
            select * from unnest(ids, debits, credits, amounts) as legs (id, debit, credit, amount)
        ),
        new as (
            insert into transfer (id, debit, credit, amount) select id, debit, credit, amount from given
            on conflict (id) do nothing
            returning id, debit, credit, amount
        ),
        line as (
            insert into entry (transfer, account, amount)
            select id, debit, -amount from new union all select id, credit, amount from new
            returning account, amount
        ),
        change as (
            select account, sum(amount)::bigint as amount from line group by account
        ),
        changed as (
            update account set balance = balance + change.amount from change where account.id = change.account
        )
    select count(*) into made from new;
    return made;
end
$$;
