//! What each thread gets of the program's thread-local variables, and of its libraries'.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// More program headers than any linker makes; what is behind them is not looked at.
const MAX_HEADERS: u64 = 256;
/// Bytes of the longest file header.
const FILE_HEADER: usize = 64;
/// The program header of a thread's variables (PT_TLS).
const THREAD_LOCALS: u64 = 7;

/// The bytes of thread-local variables that each thread gets, by the program headers (elf(5)) of
/// what is mapped to be run. glibc writes all of them when it makes a thread: it copies those that
/// have a value and clears the others, whether the thread has a use for them or not.
///
/// Of all mappings and not of /proc/self/exe alone: a library may have as many, as librdkafka where
/// it is linked dynamically. Those of a library that is loaded later are on the heap of the threads
/// that use them. What cannot be read does not count.
pub(super) fn thread_local_bytes(proc: &Path, maps: &[u8], root: &Path) -> u64 {
    let exe = proc.join("self/exe");
    let program = fs::read_link(&exe).unwrap_or_default();
    let mut paths: Vec<&Path> = maps.split(|byte| *byte == b'\n').filter_map(run).collect();
    paths.sort_unstable();
    paths.dedup();
    // The program may have been replaced since it was started, or lie where its path does not lead.
    let libraries = paths.into_iter().filter(|path| **path != program);
    let libraries = libraries.filter_map(|path| Some(root.join(path.strip_prefix("/").ok()?)));
    [exe]
        .into_iter()
        .chain(libraries)
        .filter_map(|path| of_file(&path))
        .fold(0, u64::saturating_add)
}

/// The path of a line of proc_pid_maps(5), if what is there is a file that may be run.
fn run(line: &[u8]) -> Option<&Path> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let is_run = fields.nth(1)?.get(2) == Some(&b'x');
    let path = fields.nth(3)?.trim_ascii_start();
    (is_run && path.starts_with(b"/")).then(|| Path::new(OsStr::from_bytes(path)))
}

fn of_file(path: &Path) -> Option<u64> {
    // A device may be mapped, too, and to open one may do anything.
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let file = File::open(path).ok()?;
    let mut header = [0; FILE_HEADER];
    file.read_exact_at(&mut header, 0).ok()?;
    let elf = Elf::of(&header)?;
    let mut table = vec![0; (elf.headers * elf.header_bytes) as usize];
    file.read_exact_at(&mut table, elf.headers_at).ok()?;
    let found = table
        .chunks_exact(elf.header_bytes as usize)
        .filter_map(|header| elf.thread_local_bytes(header));
    Some(found.fold(0, u64::saturating_add))
}

/// How an ELF file is written, and where its program headers are.
struct Elf {
    is_64: bool,
    is_little_endian: bool,
    headers_at: u64,
    headers: u64,
    header_bytes: u64,
}

impl Elf {
    fn of(header: &[u8]) -> Option<Elf> {
        let rest = header.strip_prefix(b"\x7fELF")?;
        let mut elf = Elf {
            is_64: *rest.first()? == 2,
            is_little_endian: *rest.get(1)? == 1,
            headers_at: 0,
            headers: 0,
            header_bytes: 0,
        };
        let (at, header_bytes, size, count) = match elf.is_64 {
            true => (32, 56, 54, 56),
            false => (28, 32, 42, 44),
        };
        if elf.number(header, size, 2)? != header_bytes {
            return None;
        }
        elf.headers_at = elf.word(header, at)?;
        elf.headers = elf.number(header, count, 2)?.min(MAX_HEADERS);
        elf.header_bytes = header_bytes;
        Some(elf)
    }

    /// The size that a program header gives, with what aligns it.
    fn thread_local_bytes(&self, header: &[u8]) -> Option<u64> {
        let (size, align) = match self.is_64 {
            true => (40, 48),
            false => (20, 28),
        };
        let is_theirs = self.number(header, 0, 4)? == THREAD_LOCALS;
        let (size, align) = (self.word(header, size)?, self.word(header, align)?);
        is_theirs.then(|| size.checked_next_multiple_of(align.max(1)))?
    }

    /// A number as long as an address.
    fn word(&self, bytes: &[u8], at: usize) -> Option<u64> {
        self.number(bytes, at, if self.is_64 { 8 } else { 4 })
    }

    fn number(&self, bytes: &[u8], at: usize, len: usize) -> Option<u64> {
        let bytes = bytes.get(at..at + len)?.iter();
        let add = |number, byte: &u8| number << 8 | u64::from(*byte);
        Some(match self.is_little_endian {
            true => bytes.rev().fold(0, add),
            false => bytes.fold(0, add),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::cell::RefCell;

    use tempfile::TempDir;

    use super::*;

    /// A file header and two program headers: of what is loaded, and of thread-local variables.
    fn elf(is_64: bool, is_little_endian: bool, size: u64, align: u64) -> Vec<u8> {
        let mut file = b"\x7fELF".to_vec();
        file.extend([1 + u8::from(is_64), 2 - u8::from(is_little_endian)]);
        file.resize(FILE_HEADER + 2 * 56, 0xee);
        let mut put = |at: usize, len: usize, number: u64| {
            let bytes = number.to_be_bytes();
            let field = &mut file[at..at + len];
            field.copy_from_slice(&bytes[8 - len..]);
            if is_little_endian {
                field.reverse();
            }
        };
        let (word, fields, at) = match is_64 {
            true => (8, [32, 54, 56], [40, 48]),
            false => (4, [28, 42, 44], [20, 28]),
        };
        let header = if is_64 { 56 } else { 32 };
        put(fields[0], word, FILE_HEADER as u64);
        put(fields[1], 2, header as u64);
        put(fields[2], 2, 2);
        for (nth, (kind, size)) in [(1, 1 << 30), (7, size)].into_iter().enumerate() {
            let start = FILE_HEADER + nth * header;
            put(start, 4, kind);
            put(start + at[0], word, size);
            put(start + at[1], word, align);
        }
        file
    }

    fn tree(files: &[(&str, &[u8])]) -> TempDir {
        let root = TempDir::new().unwrap();
        for (path, bytes) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        root
    }

    fn of(root: &TempDir, maps: &str) -> u64 {
        thread_local_bytes(&root.path().join("proc"), maps.as_bytes(), root.path())
    }

    #[test]
    fn the_variables_of_the_program_count_however_its_file_is_written() {
        for is_64 in [true, false] {
            for is_little_endian in [true, false] {
                let file = elf(is_64, is_little_endian, 0x3cb8, 0x10);
                let root = tree(&[("proc/self/exe", &file)]);
                assert_eq!(of(&root, ""), 0x3cc0, "{is_64} {is_little_endian}");
            }
        }
    }

    #[test]
    fn libraries_count_once_and_only_if_they_are_run() {
        let [program, library, data] =
            [1, 20, 300].map(|kib| elf(true, cfg!(target_endian = "little"), kib << 10, 1));
        let root = tree(&[
            ("proc/exe", &program),
            ("lib/a lib.so", &library),
            ("data", &data),
        ]);
        fs::create_dir(root.path().join("proc/self")).unwrap();
        // As the kernel has it, the link names a file that is there no more.
        std::os::unix::fs::symlink(
            root.path().join("proc/exe"),
            root.path().join("proc/self/exe"),
        )
        .unwrap();
        let path = root.path().join("proc/exe");
        let maps = format!(
            "1000-2000 r-xp 00000000 fe:00 7                  {}\n\
             2000-3000 r--p 00000000 fe:00 8                  /lib/a lib.so\n\
             3000-4000 r-xp 00001000 fe:00 8                  /lib/a lib.so\n\
             4000-5000 rw-p 00002000 fe:00 8                  /lib/a lib.so\n\
             5000-6000 r-xp 00003000 fe:00 8                  /lib/a lib.so\n\
             6000-7000 rw-p 00000000 fe:00 9                  /data\n\
             7000-8000 r-xp 00000000 00:00 0                  [vdso]\n\
             8000-9000 r-xp 00000000 fe:00 10                 /lib/gone.so\n\
             9000-a000 r-xp 00000000 fe:00 10                 /lib\n",
            path.display()
        );
        assert_eq!(of(&root, &maps), 21 << 10);
    }

    #[test]
    fn what_is_no_such_file_does_not_count() {
        let whole = elf(true, true, 4096, 8);
        for end in 0..whole.len() {
            let root = tree(&[("proc/self/exe", &whole[..end])]);
            assert_eq!(of(&root, "\n1 x\n - - - - - /\n"), 0, "{end} bytes");
        }
        let mut other = whole.clone();
        other[0] = 0;
        assert_eq!(of(&tree(&[("proc/self/exe", &other)]), ""), 0);
        // Headers of another size, and a size that no number holds once it is aligned.
        let mut other = whole;
        other[54] = 57;
        assert_eq!(of(&tree(&[("proc/self/exe", &other)]), ""), 0);
        let other = elf(true, true, u64::MAX, 8);
        assert_eq!(of(&tree(&[("proc/self/exe", &other)]), ""), 0);
    }

    #[test]
    fn those_of_this_process_count() {
        const SIZE: usize = 20 << 10;
        thread_local! {
            static LARGE: RefCell<[u8; SIZE]> = const { RefCell::new([0; SIZE]) };
        }
        let add = |bytes: &[u8; SIZE]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        let maps = fs::read("/proc/self/maps").unwrap();
        let bytes = thread_local_bytes(Path::new("/proc"), &maps, Path::new("/"));
        let beside = bytes - SIZE as u64 + LARGE.with_borrow(add);
        assert!(beside < 32 << 10, "{bytes}");
    }
}
