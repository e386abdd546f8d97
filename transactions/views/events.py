"""`/transactions/events/`: what changed, for programs that follow it."""

from lokanetra.endpoints import Endpoints, endpoint
from lokanetra.pagination import FeedPages
from transactions import events
from transactions.filters import EventFilter
from transactions.models import Event, EventQuerySet
from transactions.permissions import MayViewEvents
from transactions.serializers import EventSerializer
from users.permissions import Authenticated


class EventViewSet(Endpoints):
    @endpoint(gives=EventSerializer, filters=EventFilter, pages=FeedPages, allow=MayViewEvents)
    def list(self, request: Authenticated) -> EventQuerySet:
        """Show what changed, oldest first.

        A client that continues after the last id it saw (`after`) misses nothing, whatever was committed meanwhile.
        `next` is null when there is no more yet. `data` is the thing as staff saw it then.
        """
        events.number()
        return Event.objects.with_transactions()
