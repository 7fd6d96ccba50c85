"""What becomes of clients when parts of a cluster die: a small cluster on this machine, under load, is struck
again and again; how long clients waited is measured, and the books are proved afterwards.

    python -m simulations.failover --shard 20 --gateway 5 --postgresql 5 --node 3 --frozen 3 --head 3
"""
