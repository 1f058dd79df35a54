"""Tables from records, with every figure formatted for a reader."""
