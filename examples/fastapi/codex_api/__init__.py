"""The product's endpoints on the tables and functions of raptorflow_codex."""
