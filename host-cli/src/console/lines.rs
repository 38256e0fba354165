//! A serial console as lines: what firmware and kernels write, without what only a screen understands.
//!
//! In: bytes as they arrive. Out: lines of text. Escape sequences vanish, a move of the cursor to another line ends the line,
//! backspace and carriage return overwrite as on a terminal.

/// The reader of one console.
#[derive(Debug, Default)]
pub struct Console {
    state: State,
    /// Bytes of a character that is not complete.
    partial: Vec<u8>,
    line: Vec<char>,
    column: usize,
    parameters: String,
}

#[derive(Debug, Default, PartialEq)]
enum State {
    #[default]
    Text,
    Escape,
    /// `ESC [`: parameters up to a letter.
    Control,
    /// `ESC ]` and the like: a string up to BEL or `ESC \`.
    Quoted,
    /// One more byte belongs to the escape sequence.
    Skip,
}

/// A line nobody ends is cut here.
const LINE_MAX: usize = 1000;

impl Console {
    /// Reads bytes, returns the lines they complete; empty lines are left out.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            self.byte(byte, &mut lines);
        }
        lines
    }

    /// What stands in a line that has not ended: a prompt, a progress.
    pub fn unfinished(&self) -> String {
        self.line.iter().collect::<String>().trim_end().to_owned()
    }

    fn byte(&mut self, byte: u8, lines: &mut Vec<String>) {
        match (&self.state, byte) {
            (State::Escape, b'[') => self.state = State::Control,
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => self.state = State::Quoted,
            (State::Escape, b'(' | b')' | b'#' | b'%') => self.state = State::Skip,
            // `ESC c` resets the terminal, `ESC D`, `ESC E` and `ESC M` move between lines.
            (State::Escape, b'c' | b'D' | b'E' | b'M') => {
                self.state = State::Text;
                self.end_line(lines);
            }
            (State::Control, 0x40..=0x7e) => self.control(byte, lines),
            (State::Control, 0x20..=0x3f) => self.parameters.push(char::from(byte)),
            (State::Escape | State::Skip, 0x20..=0x7e) => self.state = State::Text,
            // systemd shortens lines in the middle of a sequence: what does not belong to it is text again.
            (State::Escape | State::Control | State::Skip, _) => {
                self.state = State::Text;
                self.parameters.clear();
                self.byte(byte, lines);
            }
            (State::Quoted, 0x07) => self.state = State::Text,
            (State::Quoted, 0x1b) => self.state = State::Escape,
            (State::Quoted, _) => {}
            (State::Text, 0x1b) => self.state = State::Escape,
            (State::Text, b'\n') => self.end_line(lines),
            (State::Text, b'\r') => self.column = 0,
            (State::Text, 0x08) => self.column = self.column.saturating_sub(1),
            (State::Text, b'\t') => {
                for _ in 0..8 - self.column % 8 {
                    self.put(' ', lines);
                }
            }
            (State::Text, 0x00..=0x1f | 0x7f) => {}
            (State::Text, 0x20..=0x7e) => self.put(char::from(byte), lines),
            (State::Text, _) => self.wide(byte, lines),
        }
    }

    /// UTF-8, if it is; firmware also writes code page 437, which is shown as a dot.
    fn wide(&mut self, byte: u8, lines: &mut Vec<String>) {
        self.partial.push(byte);
        match std::str::from_utf8(&self.partial) {
            Ok(text) => {
                let character = text.chars().next().unwrap_or('·');
                self.partial.clear();
                self.put(character, lines);
            }
            Err(error) if error.error_len().is_some() || self.partial.len() >= 4 => {
                self.partial.clear();
                self.put('·', lines);
            }
            Err(_) => {}
        }
    }

    fn control(&mut self, letter: u8, lines: &mut Vec<String>) {
        self.state = State::Text;
        let parameters = std::mem::take(&mut self.parameters);
        match letter {
            // To another place of the screen, or an empty screen.
            b'H' | b'f' | b'J' | b'A' | b'B' | b'E' | b'F' | b'd' => self.end_line(lines),
            b'C' => {
                for _ in 0..parameters.parse().unwrap_or(1).min(80) {
                    self.put(' ', lines);
                }
            }
            b'D' => self.column = self.column.saturating_sub(parameters.parse().unwrap_or(1)),
            b'G' => {
                self.column = parameters
                    .parse::<usize>()
                    .unwrap_or(1)
                    .saturating_sub(1)
                    .min(self.line.len())
            }
            b'K' => self.line.truncate(self.column),
            _ => {}
        }
    }

    fn put(&mut self, character: char, lines: &mut Vec<String>) {
        match self.line.get_mut(self.column) {
            Some(place) => *place = character,
            None => self.line.push(character),
        }
        self.column += 1;
        if self.line.len() >= LINE_MAX {
            self.end_line(lines);
        }
    }

    fn end_line(&mut self, lines: &mut Vec<String>) {
        let line = self.unfinished();
        if !line.is_empty() {
            lines.push(line);
        }
        self.line.clear();
        self.column = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        Console::default().read(bytes)
    }

    #[test]
    fn seabios_and_ipxe_lose_their_colours_and_keep_their_words() {
        // Captured: SeaBIOS 1.16.2 and the iPXE ROM of Debian 12 on QEMU's serial port.
        let bytes = b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.2-debian-1.16.2-1)\r\n\
            Machine UUID 00000000-0000-0000-0000-525400000001\r\n\r\n\r\n\
            \x1b[0;1miPXE 1.0.0+git-20190125.36a4c85-5.1\x1b[0m -- Open Source Network Boot Firmware -- \x1b[0;36mhttp\r\n\
            ://ipxe.org\r\n\
            Press Ctrl-B for\x08 \x08\x08 \x08\x08 \x08\x08 \x08\x08 \x08\x08 \x08\x08 \x08\x08 \x08\
            \x08 \x08\x08 \x08\x08 \x08\x08 \x08\x08 \x08\x08 \x08\x08 \x08\x08 \x08net0: open\r\n";
        assert_eq!(
            lines(bytes),
            [
                "SeaBIOS (version 1.16.2-debian-1.16.2-1)",
                "Machine UUID 00000000-0000-0000-0000-525400000001",
                "iPXE 1.0.0+git-20190125.36a4c85-5.1 -- Open Source Network Boot Firmware -- http",
                "://ipxe.org",
                "net0: open"
            ]
        );
    }

    #[test]
    fn a_screen_drawn_by_ovmf_becomes_lines() {
        let bytes = b"\x1b[2J\x1b[01;01H\x1b[=3h>>Start PXE over IPv4.\x1b[02;01H  Station IP address is 198.18.0.10\x1b[03;01H";
        assert_eq!(
            lines(bytes),
            [
                ">>Start PXE over IPv4.",
                "  Station IP address is 198.18.0.10"
            ]
        );
    }

    #[test]
    fn a_sequence_that_systemd_cut_short_does_not_eat_the_text() {
        let bytes = "[\x1b[0;32m  OK  \x1b[0m] Mounted \x1b[0;1;39mdev-mqueue.mount\x1b[…- POSIX\r\r\n\
            Listening on \x1b[0;1;39mdbus.socket\x1b…- D-Bus\r\r\n";
        assert_eq!(
            lines(bytes.as_bytes()),
            [
                "[  OK  ] Mounted dev-mqueue.mount…- POSIX",
                "Listening on dbus.socket…- D-Bus"
            ]
        );
    }

    #[test]
    fn a_progress_that_overwrites_itself_is_shown_once_as_it_ended() {
        assert_eq!(
            lines(b"vmlinuz... 10%\x08\x08\x0899%\x08\x08\x08ok \r\n"),
            ["vmlinuz... ok"]
        );
        assert_eq!(lines(b"one\rtwo\x1b[K\r\n\r\n"), ["two"]);
    }

    #[test]
    fn bytes_split_anywhere_give_the_same_lines() {
        let bytes = "a\x1b[31mb\x1b[0m é\x1b]0;title\x07│\r\nend".as_bytes();
        let mut console = Console::default();
        let split: Vec<String> = bytes
            .iter()
            .flat_map(|byte| console.read(&[*byte]))
            .collect();
        assert_eq!(split, ["ab é│"]);
        assert_eq!(console.unfinished(), "end");
    }

    #[test]
    fn noise_is_harmless() {
        let noise: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        for line in lines(&noise) {
            assert!(line.chars().count() <= LINE_MAX && !line.contains('\x1b'));
        }
    }
}
