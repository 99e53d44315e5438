"""From a composed config to checked settings and the objects built from them."""
