"""No request reaches a method without a contract that says who may call it."""

import pytest
from rest_framework.decorators import action

from lokanetra.endpoints import Endpoints, endpoint


def method(self, request, **arguments):
    return None


@pytest.mark.parametrize("name", ["list", "create", "retrieve", "update", "partial_update", "destroy"])
def test_a_method_that_a_router_finds_needs_a_contract(name):
    with pytest.raises(TypeError, match=f"Forgotten.{name} has no @endpoint"):
        type("Forgotten", (Endpoints,), {name: method})
    type("Remembered", (Endpoints,), {name: endpoint()(method)})


def test_an_action_needs_a_contract():
    with pytest.raises(TypeError, match=r"Forgotten.open has no @endpoint"):

        class Forgotten(Endpoints):
            @action(detail=False)
            def open(self, request):
                return None


def test_an_action_of_another_method_needs_a_contract():
    with pytest.raises(TypeError, match=r"Forgotten.change has no @endpoint"):

        class Forgotten(Endpoints):
            @action(detail=False)
            @endpoint()
            def open(self, request):
                return None

            @open.mapping.patch
            def change(self, request):
                return None


def test_an_inherited_contract_is_enough():
    class Above(Endpoints):
        list = endpoint()(method)

    class Below(Above):
        pass
