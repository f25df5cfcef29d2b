-- How hard an attempt's model is asked to think. Null: the model knows no efforts, or has its server's default.
alter table attempt add column effort text;
