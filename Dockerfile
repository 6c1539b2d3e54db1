# coapgw as a container:
#
#   docker build -t coapgw .
#   docker run --network host --cap-drop ALL --cap-add NET_ADMIN --device /dev/net/tun \
#       -v /etc/coapgw:/etc/coapgw:ro -v /run/coapgw:/run/coapgw coapgw
#
# The second command is right for a tap: device. README.md lists what the other devices need. /run/coapgw
# holds the journal of unsafe requests, which is to outlive the container.

FROM debian:12-slim AS build
COPY tests/packages /src/tests/packages
COPY tests/packages.sh /src/tests/
RUN /src/tests/packages.sh build
COPY . /src
RUN cmake -S /src -B /build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCOAPGW_LTO=ON \
        -DCOAPGW_TESTS=OFF -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_INSTALL_SYSCONFDIR=/etc \
    && cmake --build /build \
    && DESTDIR=/installed cmake --install /build --strip

FROM debian:12-slim
COPY tests/packages/runtime.txt /tmp/packages/
COPY tests/packages.sh /tmp/
RUN /tmp/packages.sh runtime && rm -rf /tmp/packages /tmp/packages.sh /var/lib/apt/lists/*
COPY --from=build /installed/ /
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/sbin/coapgw"]
CMD ["-c", "/etc/coapgw/coapgw.yaml"]
