"""The networks that training learns: plain modules that know no files, devices or options."""
