//! The limit that plugin calls are held against: a core module that works on raw memory, called without a component
//! around it, without slices and without checks. For benches; nothing in the gateway uses it.
//!
//! The columns of a frame are copied into the guest's memory, the guest writes `v * 1.8 + 32` over one of them, and all
//! of it is copied out into new lists: what any sandbox with its own memory has to do at least.

use wasmtime::{Engine, Instance, Memory, Module, Store, TypedFunc};

/// Bytes of the guest's memory.
const MEMORY: usize = 64 << 16;

/// `work(from, to, rows)`: a loop over `rows` numbers of 64 bits at `from`, results at `to`.
///
/// ```text
/// type    (i32, i32, i32) -> ()
/// memory  64 pages; exports "memory" and "work"
/// code    loop  to from f64.load 1.8 f64.mul 32 f64.add f64.store
///               from += 8  to += 8  rows -= 1  br_if 0  end
/// ```
const MODULE: &[u8] = &[
    0x00, b'a', b's', b'm', 0x01, 0x00, 0x00, 0x00, // head
    0x01, 0x07, 0x01, 0x60, 0x03, 0x7f, 0x7f, 0x7f, 0x00, // type
    0x03, 0x02, 0x01, 0x00, // function
    0x05, 0x03, 0x01, 0x00, 0x40, // memory
    0x07, 0x11, 0x02, 0x06, b'm', b'e', b'm', b'o', b'r', b'y', 0x02, 0x00, // exports
    0x04, b'w', b'o', b'r', b'k', 0x00, 0x00, //
    0x0a, 0x3c, 0x01, 0x3a, 0x00, // code: one body of 58 bytes, without locals
    0x03, 0x40, // loop
    0x20, 0x01, 0x20, 0x00, 0x2b, 0x03, 0x00, // to, [from]
    0x44, 0xcd, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xfc, 0x3f, 0xa2, // * 1.8
    0x44, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x40, 0xa0, // + 32
    0x39, 0x03, 0x00, // store
    0x20, 0x00, 0x41, 0x08, 0x6a, 0x21, 0x00, // from += 8
    0x20, 0x01, 0x41, 0x08, 0x6a, 0x21, 0x01, // to += 8
    0x20, 0x02, 0x41, 0x01, 0x6b, 0x22, 0x02, 0x0d, 0x00, // rows -= 1, again unless 0
    0x0b, 0x0b, // end, end
];

/// An instance of it.
pub struct Bare {
    store: Store<()>,
    memory: Memory,
    work: TypedFunc<(u32, u32, u32), ()>,
}

/// Columns as they come out.
#[derive(Debug, Default, PartialEq)]
pub struct Columns {
    /// Indices of devices.
    pub device: Vec<u32>,
    /// Times.
    pub time: Vec<i64>,
    /// Numbers; the first column is the one that was worked on.
    pub numbers: Vec<Vec<f64>>,
}

impl Bare {
    /// Compiles and instantiates it.
    ///
    /// # Errors
    /// When wasmtime refuses it, in words.
    pub fn new() -> Result<Self, String> {
        Self::make().map_err(|error| format!("{error:#}"))
    }

    fn make() -> wasmtime::Result<Self> {
        let engine = Engine::default();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &Module::new(&engine, MODULE)?, &[])?;
        let memory = instance.get_memory(&mut store, "memory");
        let memory = memory.ok_or_else(|| wasmtime::format_err!("no memory"))?;
        let work = instance.get_typed_func(&mut store, "work")?;
        Ok(Bare { store, memory, work })
    }

    /// Columns in, the guest's work, columns out.
    ///
    /// # Errors
    /// When they do not fit into the guest's memory, or it traps; in words.
    pub fn call(&mut self, device: &[u32], time: &[i64], numbers: &[&[f64]]) -> Result<Columns, String> {
        let rows = time.len();
        let bytes = (4 + 8 + 8 * numbers.len()) * rows;
        if bytes > MEMORY || device.len() != rows || numbers.iter().any(|column| column.len() != rows) {
            return Err(format!("{bytes} bytes in unequal columns, or more than {MEMORY}"));
        }
        let mut rest = self.memory.data_mut(&mut self.store);
        for column in numbers {
            rest = put(rest, column, |number| number.to_le_bytes());
        }
        rest = put(rest, time, |time| time.to_le_bytes());
        put(rest, device, |device| device.to_le_bytes());
        if rows > 0 && !numbers.is_empty() {
            let called = self.work.call(&mut self.store, (0, 0, rows as u32));
            called.map_err(|error| format!("{error:#}"))?;
        }
        let mut rest = self.memory.data(&self.store);
        let mut columns = Columns::default();
        for _ in numbers {
            let column;
            (column, rest) = take(rest, rows, f64::from_le_bytes);
            columns.numbers.push(column);
        }
        (columns.time, rest) = take(rest, rows, i64::from_le_bytes);
        (columns.device, _) = take(rest, rows, u32::from_le_bytes);
        Ok(columns)
    }
}

fn put<'a, T: Copy, const N: usize>(
    to: &'a mut [u8],
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> &'a mut [u8] {
    let (here, rest) = to.split_at_mut_checked(values.len() * N).unwrap_or_default();
    for (to, value) in here.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *to = bytes(*value);
    }
    rest
}

fn take<T, const N: usize>(from: &[u8], count: usize, value: impl Fn([u8; N]) -> T) -> (Vec<T>, &[u8]) {
    let (here, rest) = from.split_at_checked(count * N).unwrap_or_default();
    (here.as_chunks::<N>().0.iter().map(|bytes| value(*bytes)).collect(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_computes_what_the_built_in_plugin_does() {
        let first: Vec<f64> = (0..1_000).map(f64::from).collect();
        let second: Vec<f64> = first.iter().map(|number| number / 7.0).collect();
        let device: Vec<u32> = (0..1_000).map(|row| row % 3).collect();
        let time: Vec<i64> = (0..1_000).map(|row| i64::MAX - row).collect();
        let columns = Bare::new().unwrap().call(&device, &time, &[&first, &second]).unwrap();
        let expected: Vec<f64> = first.iter().map(|number| number * 1.8 + 32.0).collect();
        assert_eq!(columns, Columns { device, time, numbers: vec![expected, second] });
        let large = vec![0; 1 << 20];
        assert!(Bare::new().unwrap().call(&large, &vec![0; 1 << 20], &[]).is_err());
    }
}
