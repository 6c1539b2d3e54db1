"""What the tests of kills share: changes all the time, somebody who kills, and who knows what the store
may not know then."""

import random
import threading
import time

from netns import wait_until


class Changes:
    """New states of random resources, all the time."""

    def __init__(self, origin, seed, each=0.02):
        self._origin, self._each = origin, each
        self._random = random.Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._change, daemon=True)

    def _change(self):
        while not self._ended.wait(self._each):
            self._origin.change(self._random.randrange(len(self._origin.states)))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()


class World:
    """What is killed, and who looks on."""

    def __init__(self, site, redis, fleet, folder, relations=None):
        self.site, self.redis, self.fleet = site, redis, fleet
        self._relations = relations or redis.relations
        self.gateways = 0  # killed
        self._workers = 1  # of the next one
        self._folder = folder
        self._unequal("gateway")

    def _connections(self):
        return self.site.gateway.log().count("store: connected")

    def _unequal(self, who):
        """The store may lack what happens from now on, or have what is over, until the gateway is
        connected and has compared everything. What devices cancel meanwhile may come back when the
        gateway is killed before."""
        self.fleet.say("down", "store")
        self._wanted = 1 if who == "gateway" else self._connections() + 1
        self._connected_at = None

    def look(self):
        """Once it is connected and nothing is left of what was cancelled, all counts again."""
        if self._wanted is None:
            return True
        if self._connections() < self._wanted:
            return False
        now = time.monotonic()
        self._connected_at = self._connected_at or now
        if now < self._connected_at + 1.5:
            return False
        if self._relations() & self.fleet.cancelled(self._folder / "cancelled"):
            return False
        self.fleet.say("up", "store")
        self._wanted = None
        return True

    def live(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.look()
            time.sleep(min(0.1, max(0, deadline - time.monotonic())))

    def kill_gateway(self):
        self.site.kill()
        self._restart_gateway()

    def _restart_gateway(self):
        self.gateways += 1
        self.fleet.say("down", "gateway")
        self.while_down()
        self._unequal("gateway")
        self.site.start(workers=self._workers)

    def while_down(self):
        """What happens meanwhile."""

    def kill_redis(self):
        """The gateway goes on; nobody is owed anything."""
        self._unequal("redis")
        self.redis.restart()

    def kill_both(self):
        self._unequal("redis")
        first, second = random.sample((self.redis.kill, self.site.kill), 2)
        first()
        second()
        self.redis.start()
        self._restart_gateway()

    def kill_one_or_both(self):
        random.choice((self.kill_gateway, self.kill_redis, self.kill_both))()

    def kill(self, how, chance, count, all_heard=lambda: None):
        """So many of them, at random moments, mostly when all is as it was."""
        for _ in range(count):
            self.live(chance.uniform(0.05, 2))
            self._workers = chance.choice([1, 2])
            getattr(self, how)()
            if chance.random() < 0.7:  # otherwise it is killed again before all is resumed
                self.fleet.heard(60)
                all_heard()
            if chance.random() < 0.4:
                wait_until("the store has nothing that is over", self.look, 30, 0.1)
            self.fleet.check()

    def store_has_all(self):
        """All that devices have, and nothing else."""
        accepted = self.fleet.accepted(self._folder / "accepted")
        wait_until("nothing is missing in the store, nor too much", timeout=30, interval=0.3,
                   condition=lambda: self._relations() == accepted)
        assert not self.redis.keys("*rejected*")
