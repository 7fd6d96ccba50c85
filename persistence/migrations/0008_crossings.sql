-- Crossings: what happened on several shards at once. A row says where one of them stands in a shard's history:
-- decided by its home, or applied by another shard. `first` and `last` are the stamps of its legs there, 0 = none.
create table crossing (
    first   int8 not null,
    last    int8 not null,
    lsn     int8 not null,
    epoch   int8 not null,
    counter int8 not null,
    home    int2 not null,
    shard   int2 not null,
    primary key (shard, home, epoch, counter)
);
create index crossing_last on crossing (shard, last);

-- Where, besides its home, a Move has legs: those of one step stand in a row, the last one has this timestamp.
create table crossing_move (
    timestamp int8 not null,
    seq       int4 not null,
    legs      int4 not null,
    shard     int2 not null,
    move      uuid not null,
    primary key (move, seq, shard, timestamp)
);

-- A cut through the histories of all shards that no crossing contradicts: whatever a shard has applied by its time,
-- the crossing's home has decided by its own. Of everything projected, or, with a time, as near after it as can be.
create function consistent_cut(at int8 default null) returns table (shard int2, upto int8)
language plpgsql stable
set search_path from current
as $$
#variable_conflict use_column
declare
    caps  int8[];  -- by shard: what is projected and not contradicted
    cut   int8[];
    found boolean;
    one   record;
begin
    select array_agg(coalesce(c.timestamp, 0) order by s.shard) into caps
    from generate_series(0, (select max(shard) from projection_cursor)) as s (shard)
    left join projection_cursor c on c.shard = s.shard;
    loop
        found := false;
        for one in
            select a.shard, min(a.first) as first
            from crossing a
            left join crossing h on h.shard = a.home and h.home = a.home and h.epoch = a.epoch and h.counter = a.counter
            where a.shard <> a.home and a.first > 0 and a.first <= caps[a.shard + 1]
              and (h.lsn is null or h.last > caps[a.home + 1])
            group by a.shard
        loop
            caps[one.shard + 1] := one.first - 1;
            found := true;
        end loop;
        exit when not found;
    end loop;
    select array_agg(least(cap, coalesce(at, cap)) order by n) into cut
    from unnest(caps) with ordinality as c (cap, n);
    loop
        found := false;
        for one in
            select a.home, max(h.last) as last
            from crossing a
            join crossing h on h.shard = a.home and h.home = a.home and h.epoch = a.epoch and h.counter = a.counter
            where a.shard <> a.home and a.first > 0 and a.first <= cut[a.shard + 1] and h.last > cut[a.home + 1]
            group by a.home
        loop
            cut[one.home + 1] := one.last;
            found := true;
        end loop;
        exit when not found;
    end loop;
    return query select (n - 1)::int2, t from unnest(cut) with ordinality as c (t, n) order by n;
end
$$;

-- What is on its way between pairs of shards at such a cut: per asset, what the pair accounts of the two have together.
create function in_flight(at int8 default null)
returns table (shard int2, other int2, asset int8, amount int8)
language sql stable
set search_path from current
as $$
    select least(a.shard, p.other), greatest(a.shard, p.other), a.asset,
           sum(b.credits_posted - b.debits_posted)::int8
    from consistent_cut(at) c
    join account a on a.shard = c.shard and a.code = 9000 and a.created <= c.upto
    cross join lateral (select substr(a.key, 3)::int2 as other) p
    cross join lateral balance_at(a.shard, a.ordinal, c.upto) b
    group by 1, 2, 3
    order by 1, 2, 3
$$;
