"""The pages of the documentation work without the rest of the internet."""

import re

import pytest


@pytest.mark.parametrize("path", ["/swagger/", "/redoc/"])
def test_they_load_nothing_from_another_host(client, path):
    page = client.get(path)
    assert page.status_code == 200
    policy = page["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert not re.search("https?:|[*]", policy)
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page.content.decode())


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/admin/login/", "/swagger.json", "/healthz"])
def test_other_pages_cannot_be_framed(client, path):
    assert client.get(path)["Content-Security-Policy"] == "frame-ancestors 'none'"
