"""SQL over a study's tables: the connection, its functions and statistics, and the questions of queries/."""
