"""Mistral at home in JupyterLab: live streams, labelled DataFrames, agents."""
