"""The report of a benchmark: tables, charts, the recommendation, and the page that shows them."""
