"""What a benchmark measures of a network: quality, cost, and how sure the figures are."""
