//! Reads the kernel's tables of TCP sockets (`/proc/net/tcp` and `tcp6`) for those that listen.

/// A listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// Its port.
    pub port: u16,
    /// Its inode, by which the process that holds it can be found.
    pub inode: u64,
}

/// The listening sockets in the text of such a table. A line that cannot be read is passed over.
pub fn parse(table: &str) -> impl Iterator<Item = Listener> + '_ {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let listening = fields.nth(1)? == "0A";
        let inode = fields.nth(5)?.parse().ok()?;
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        listening.then_some(Listener { port, inode })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_are_found() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0\n\
             1: 0100007F:9C40 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0 20 4 30 10 -1\n\
             2: 00000000000000000000000001000000:0050 00:0000 0A 0:0 00:0 0 0 0 7 1\n\
             garbage\n";
        let found: Vec<_> = parse(table).collect();
        assert_eq!(
            found,
            [
                Listener {
                    port: 8080,
                    inode: 4711
                },
                Listener { port: 80, inode: 7 }
            ]
        );
    }
}
