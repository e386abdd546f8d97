"""No request reaches a method without a contract that says who may call it."""

import pytest
from rest_framework.decorators import action
from rest_framework.serializers import Serializer

from lokanetra.endpoints import Endpoints, endpoint
from lokanetra.tests.test_access import routes


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


def test_no_body_is_validated_as_a_whole():
    """A contract reads its fields alone."""
    taken = {handler.contract.takes for _, _, handler in routes() if hasattr(handler, "contract")} - {None}
    assert len(taken) > 10
    for kind in taken:
        assert (kind.validate, kind.run_validation) == (Serializer.validate, Serializer.run_validation), kind
        assert kind().validators == [], kind
