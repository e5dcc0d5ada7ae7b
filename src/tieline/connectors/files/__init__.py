"""Folders of CSV and JSON lines: state files, drop folders, and files written batch by batch."""

from tieline.connectors.files.connector import Files, FilesConnector
from tieline.connectors.files.resources import Csv, JsonLines

__all__ = ["Csv", "Files", "FilesConnector", "JsonLines"]
