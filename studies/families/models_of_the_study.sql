-- title: Models of the study
-- question: What was trained, on how much, for how long, and how well?
-- note: Loss is the mean over the last 5 % of the training, in nats per token; seconds are those of training, without its preparation.

SELECT architecture, size, non_embedding_parameters, parameters, layers, hidden_size, heads, trained_tokens,
       round(seconds)::BIGINT AS seconds,
       round(tokens_per_second)::BIGINT AS tokens_per_second,
       final_loss AS loss
FROM described
WHERE role = 'size'
ORDER BY place, size_rank
