"""The gate: measures two versions of `storage` side by side, in fresh processes."""
