"""Networks that are learnt: pure modules, without files, devices or options of a method."""
