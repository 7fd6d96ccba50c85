-- Who is related to whom, by what profiles say; see gateway/descriptions.py.
create index party_relation on party using gin ((profile -> 'tessera:relations') jsonb_path_ops)
where profile ? 'tessera:relations';
