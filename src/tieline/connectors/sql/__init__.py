"""Tables of a SQL database as resources: SQLite and PostgreSQL.

``Sql(orders=Table("orders", key="number", cursor="updated_at", children={"lines": Child(…)}))``
with the system's url ``sqlite:///path`` or ``postgresql://host/database``. Options an operator may set:

- ``held`` (true): keep the held table and the fence rows beside the company's own, in their transaction.
- ``held_schema`` ("tieline"): the PostgreSQL schema they are in.
- ``foreign_keys`` (true): have SQLite enforce the foreign keys it declares.
"""

from tieline.connectors.sql.connector import Sql
from tieline.connectors.sql.tables import Child, Table

__all__ = ["Child", "Sql", "Table"]
