//! Anything that is not the sandbox's own loopback, and sockets of the host.

use super::attempt::Attempt;

pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt(
        "netlink",
        "seccomp: socket families",
        r#"each_of(sub { socket(my $to, 16, 3, $_) ? "ok" : name($!) }, 0, 9, 12, 15)"#,
        "EAFNOSUPPORT",
    ),
    Attempt(
        "packets of the wire",
        "seccomp: socket families",
        r#"socket(my $to, 17, 3, 0) ? "ok" : name($!)"#,
        "EAFNOSUPPORT",
    ),
    Attempt(
        "the old way to packets",
        "seccomp: socket types",
        r#"socket(my $to, 2, 10, 0) ? "ok" : name($!)"#,
        "EPERM",
    ),
    Attempt(
        "raw sockets",
        "seccomp: socket types",
        r#"each_of(sub { my ($family, $protocol) = @$_; socket(my $to, $family, 3, $protocol) ? "ok" : name($!) }, [2, 1], [2, 255], [10, 58])"#,
        "EPERM",
    ),
    Attempt(
        "the hypervisor",
        "seccomp: socket families",
        r#"socket(my $to, 40, 1, 0) ? "ok" : name($!)"#,
        "EAFNOSUPPORT",
    ),
    Attempt(
        "the kernel's ciphers",
        "seccomp: socket families",
        r#"socket(my $to, 38, 5, 0) ? "ok" : name($!)"#,
        "EAFNOSUPPORT",
    ),
    Attempt(
        "rare protocols",
        "seccomp: protocols, or this kernel has none of them",
        r#"each_of(sub { my ($kind, $protocol) = @$_; my $to; map { socket($to, $_, $kind, $protocol) ? "ok" : name($!) } 2, 10 },
               [6, 33], [1, 132], [5, 132], [2, 115], [2, 136], [1, 256])"#,
        "EAFNOSUPPORT",
    ),
    Attempt(
        "every other family",
        "seccomp: socket families, of pairs too",
        r#"each_of(sub { my $family = $_; (map { socket(my $to, $family, $_, 0) ? "ok $family" : name($!) } 1, 2, 3, 5),
               socketpair(my $one, my $two, $family, 1, 0) ? "pair $family" : name($!) }, 3 .. 9, 11 .. 64)"#,
        "EAFNOSUPPORT",
    ),
    Attempt(
        "the metadata service",
        "no route",
        r#"each_of(sub { dials(2, 1, pack_sockaddr_in($_, inet_aton("169.254.169.254"))) }, 80, 443)"#,
        "ENETUNREACH",
    ),
    Attempt(
        "the metadata service by its other address",
        "no route",
        r#"dials(10, 1, Socket::pack_sockaddr_in6(80, Socket::inet_pton(10, "fd00:ec2::254")))"#,
        "ENETUNREACH|EADDRNOTAVAIL|EAFNOSUPPORT",
    ),
    Attempt(
        "private networks",
        "no route",
        r#"each_of(sub { dials(2, 1, pack_sockaddr_in(443, inet_aton($_))) }, qw(10.0.0.1 172.17.0.1 192.168.0.1 100.64.0.1))"#,
        "ENETUNREACH",
    ),
    Attempt(
        "public addresses",
        "no route",
        r#"each_of(sub { dials(2, 1, pack_sockaddr_in(443, inet_aton($_))) }, qw(1.1.1.1 192.0.2.1 203.0.113.1))"#,
        "ENETUNREACH",
    ),
    Attempt(
        "datagrams",
        "no route",
        r#"each_of(sub { dials(2, SOCK_DGRAM, pack_sockaddr_in(53, inet_aton($_))) }, qw(8.8.8.8 10.0.0.1 224.0.0.251 255.255.255.255))"#,
        "ENETUNREACH|EACCES ENETUNREACH",
    ),
    Attempt(
        "mapped addresses",
        "no route",
        r#"dials(10, 1, Socket::pack_sockaddr_in6(80, Socket::inet_pton(10, "::ffff:169.254.169.254")))"#,
        "ENETUNREACH|EAFNOSUPPORT",
    ),
    Attempt(
        "names",
        "no resolver is reachable",
        r#"each_of(sub { defined(inet_aton($_)) ? "found" : "not found" }, qw(example.com metadata.google.internal localhost.example.com))"#,
        "not found",
    ),
    Attempt(
        "a server on the host's loopback",
        "a network namespace of its own",
        r#"dials(2, 1, pack_sockaddr_in($host{port}, INADDR_LOOPBACK))"#,
        "ECONNREFUSED",
    ),
    Attempt(
        "the same by other names of loopback",
        "a network namespace of its own",
        r#"each_of(sub { dials(2, 1, pack_sockaddr_in($host{port}, inet_aton($_))) }, qw(127.0.0.2 127.255.255.254 0.0.0.0))"#,
        "ECONNREFUSED",
    ),
    Attempt(
        "an abstract socket of the host",
        "a network namespace of its own",
        r#"dials(1, 1, pack("Sa*", 1, "\0" . $host{abstract}))"#,
        "ECONNREFUSED",
    ),
    Attempt(
        "the host's display and message bus",
        "a network namespace of its own; /tmp and /run are its own",
        r#"each_of(sub { dials(1, 1, pack("Sa*", 1, $_)) }, "\0/tmp/.X11-unix/X0", "/tmp/.X11-unix/X0", "/run/dbus/system_bus_socket")"#,
        "ECONNREFUSED ENOENT",
    ),
    Attempt(
        "a socket of the host among its temporary files",
        "a /tmp of its own",
        r#"dials(1, 1, pack("Sa*", 1, $host{socket}))"#,
        "ENOENT",
    ),
    Attempt(
        "a socket of the host among its programs",
        "overlays show copies of sockets, which lead nowhere",
        r#"dials(1, 1, pack("Sa*", 1, $host{shown}))"#,
        "ECONNREFUSED; own root: ENOENT",
    ),
    Attempt(
        "engines of containers",
        "/run is its own",
        r#"each_of(sub { dials(1, 1, pack("Sa*", 1, $_)) }, qw(/run/docker.sock /var/run/docker.sock /run/containerd/containerd.sock /run/podman/podman.sock))"#,
        "ENOENT",
    ),
    Attempt(
        "its runner's socket",
        "the folder of sandboxes is private",
        r#"dials(1, 1, pack("Sa*", 1, "$host{own}/runner.sock") )"#,
        "ENOENT",
    ),
    Attempt(
        "taking the proxy's place",
        "process 1 listened before any program ran",
        r#"each_of(sub { socket(my $at, 2, 1, 0); setsockopt($at, SOL_SOCKET, $_, pack("i", 1)) for SO_REUSEADDR, 15;
               bind($at, pack_sockaddr_in(3128, $_)) ? "ok" : name($!) }, INADDR_ANY, INADDR_LOOPBACK)"#,
        "EADDRINUSE",
    ),
    Attempt(
        "routes and addresses",
        "no capability",
        r#"socket(my $to, 2, 2, 0); each_of(sub { my $request = "lo" . "\0" x 118; ioctl($to, $_, $request) ? "ok" : name($!) }, 0x890B, 0x8914, 0x8916)"#,
        "EPERM",
    ),
    Attempt("devices of the network", "only these devices are there", r#"opens("/dev/net/tun", O_RDWR)"#, "ENOENT"),
    Attempt(
        "which networks the host has",
        "a network namespace of its own",
        r#"my %seen; open(my $file, "<", "/proc/net/dev"); for (<$file>) { $seen{$1}++ if /^\s*([^\s:]+):/ } join(" ", sort keys %seen)"#,
        "lo",
    ),
];
