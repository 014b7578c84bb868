"""Notebooks for Colab or any Jupyter, each as a `.py` to read and an `.ipynb` to run.

The two are kept in step by jupytext: `jupytext --sync finetuning/notebooks/*.ipynb`.
"""
