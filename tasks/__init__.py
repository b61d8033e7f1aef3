"""Where work runs: units, slots, retries. May import Ray and ganinv, never Prefect."""
