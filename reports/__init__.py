"""Reports about saved runs: tables, figures, a page, comparisons, the gate. Reads runs and nothing else."""
