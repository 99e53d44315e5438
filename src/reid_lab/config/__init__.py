"""From a composed config to checked settings and the parts that they build."""
