-- Sessions that are over are thrown away whenever somebody signs in.
create index web_session_by_end on web_session (expires_at);
