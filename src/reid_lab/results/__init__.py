"""The results in a run's folder: one row type per table, with one writer and one reader."""

from reid_lab.results.folder import (
    CONFIG,
    NEW,
    OLD,
    RESULTS,
    SUMMARY,
    begin_test,
    config_of,
    results_of,
)
from reid_lab.results.results import OF_A_TEST, TABLES, Results, publish_results
from reid_lab.results.summary import Summary

__all__ = [
    "CONFIG",
    "NEW",
    "OF_A_TEST",
    "OLD",
    "RESULTS",
    "SUMMARY",
    "TABLES",
    "Results",
    "Summary",
    "begin_test",
    "config_of",
    "publish_results",
    "results_of",
]
