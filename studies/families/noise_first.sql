-- title: Noise before the first layer
-- question: How far is the exported cosine before the first layer from that which noise of its strength gives?

SELECT max(abs(similarity - 1 / sqrt(1 + alpha ** 2))) AS cosine_deviation, max(alpha) AS of_alpha
FROM noise_similarity
SEMI JOIN grid USING (run_label)
WHERE layer = 0
