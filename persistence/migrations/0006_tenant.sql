-- Whose this log is, with everything in this schema. Written once, by the first engine that opens it.
create table tenant (
    one  boolean primary key default true check (one),  -- there is one row, or none
    name text    not null
);
