"""What happened on a spool, judged by one who has read its contract and none of its code."""
