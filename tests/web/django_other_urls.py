"""The addresses of another site that the same Django serves."""

from __future__ import annotations

from django.urls import path

from tests.web.django_urls import item_by_name

urlpatterns = [path("items/<slug:name>/", item_by_name)]
