"""A small company's real systems, made by others: webshop, ERP and maintenance, on this machine only."""
