"""One run: check, build, fit, test, report; many: a sweep's table."""
