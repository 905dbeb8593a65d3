-- title: Models beside the grid
-- question: Which models are checkpoints, second trainings or controls?

SELECT replace(role, '-', ' ') AS role, architecture, size,
       count(*) AS models,
       string_agg(DISTINCT seed::VARCHAR, ', ' ORDER BY seed::VARCHAR) AS seeds,
       coalesce(string_agg(round(trained_tokens / 1e6, 1)::VARCHAR || 'M', ', ' ORDER BY trained_tokens), '—')
           AS trained_tokens
FROM described
WHERE role <> 'size'
GROUP BY role, architecture, place, size, size_rank
ORDER BY role, place, size_rank
