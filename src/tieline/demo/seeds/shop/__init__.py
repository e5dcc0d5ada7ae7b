"""The site of the demo's webshop, a django-oscar project."""
