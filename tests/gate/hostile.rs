//! Input that nobody means well.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::scenarios;
use crate::world::{AT_ONCE, Family, TRUSTED, Tried, World, long_policy};

scenarios![
    garbage_on_the_control_socket_changes_nothing,
    half_a_request_hinders_nobody,
    a_hundred_megabytes_are_not_read,
    many_connections_to_the_control_socket,
    malformed_packets_change_nothing,
];

/// All is as it was: answers, lets in, shuts out, hears knocks.
fn is_sound(world: &mut World) -> Tried {
    assert!(world.daemon.ended()?.is_none(), "the daemon ended");
    world.expect(0, &["ping"]);
    for (person, trusted) in world.people(10)?.into_iter().zip(world.people(50)?) {
        person.is_refused();
        trusted.gets_in();
    }
    world.all_is_handled()?;
    Ok(())
}

fn garbage_on_the_control_socket_changes_nothing() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    for garbage in [
        &b"\n"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"{}\n",
        b"{\"version\":1}\n",
        b"{\"version\":99,\"verb\":\"open\"}\n",
        b"{\"version\":1,\"verb\":\"format-disk\"}\n",
        b"{\"version\":1,\"verb\":\"accept\",\"args\":[\"192.0.2.10; reboot\"]}\n",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n",
        b"\xff\xfe\x00\x80\n",
    ] {
        let mut stream = UnixStream::connect(world.daemon.socket_path())?;
        stream.set_read_timeout(Some(AT_ONCE))?;
        // It may close on us while we write.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.take(65_536).read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(
            !text.contains("\"code\":0"),
            "{garbage:?} was answered {text}"
        );
    }
    is_sound(&mut world)
}

fn half_a_request_hinders_nobody() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut stream = UnixStream::connect(world.daemon.socket_path())?;
        stream.write_all(b"{\"version\":1,\"verb\":")?;
        held.push(stream);
    }
    is_sound(&mut world)?;
    drop(held);
    is_sound(&mut world)
}

fn a_hundred_megabytes_are_not_read() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let mut stream = UnixStream::connect(world.daemon.socket_path())?;
    stream.set_write_timeout(Some(AT_ONCE))?;
    let block = vec![b'x'; 1 << 20];
    let taken = (0..100).take_while(|_| stream.write_all(&block).is_ok());
    let megabytes = taken.count();
    assert!(megabytes < 2, "{megabytes} MiB were taken");
    is_sound(&mut world)
}

fn many_connections_to_the_control_socket() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let path = world.daemon.socket_path();
    let held: Vec<_> = (0..200)
        .map_while(|_| UnixStream::connect(&path).ok())
        .collect();
    assert!(held.len() >= 32, "only {} connections", held.len());
    // The gate does not depend on the socket.
    for person in world.people(11)? {
        person.opens();
    }
    drop(held);
    // Those were closed; how fast is the daemon's business.
    let mut answered = false;
    for _ in 0..100 {
        answered = world.ctl(&["ping"])?.code == Some(0);
        if answered {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(answered, "the socket did not recover");
    is_sound(&mut world)
}

fn malformed_packets_change_nothing() -> Tried {
    use socket2::{Domain, Protocol, Socket, Type};
    let mut world = World::with(&long_policy(), TRUSTED)?;
    for family in Family::BOTH {
        let server: IpAddr = family.server().parse()?;
        let domain = Domain::for_address(SocketAddr::new(server, 0));
        let raw = world.clients.run(|| -> std::io::Result<()> {
            // TCP, UDP, fragment headers of IPv6, and what nobody has: all cut short.
            for protocol in [6, 17, 44, 60, 43, 253] {
                let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(protocol)))?;
                for length in 1..48_u8 {
                    let bytes: Vec<u8> = (0..length)
                        .map(|at| at.wrapping_mul(length).wrapping_add(4))
                        .collect();
                    // Some the kernel refuses to send, and that is as good.
                    let _ = socket.send_to(&bytes, &SocketAddr::new(server, 0).into());
                }
            }
            let datagram = UdpSocket::bind(match family {
                Family::V4 => "0.0.0.0:0",
                Family::V6 => "[::]:0",
            })?;
            for port in [1228, 1227, 22, 1220, 1221] {
                datagram.send_to(&[0; 1400], SocketAddr::new(server, port))?;
            }
            Ok(())
        })?;
        raw?;
    }
    is_sound(&mut world)
}
