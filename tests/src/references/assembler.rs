//! As much of an assembler for eBPF (RFC 9669) as the programs here take.

/// A register.
#[derive(Clone, Copy, Debug)]
pub(super) enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    /// The end of the stack.
    Frame,
}

/// Bytes that an instruction reads or writes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Width {
    Byte = 0x10,
    Half = 0x08,
    Word = 0x00,
}

/// What a jump asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum If {
    /// Nothing.
    Always,
    /// The register is this number.
    Is(i32),
    /// It is another one.
    IsNot(i32),
    /// It has one of these bits.
    Has(i32),
    /// It is greater than the other register.
    Above(Register),
}

/// Functions of the kernel (`enum bpf_func_id`).
#[derive(Clone, Copy, Debug)]
pub(super) enum Helper {
    MapLookup = 1,
    Random = 7,
    StoreBytes = 9,
    TailCall = 12,
    CloneRedirect = 13,
}

/// A place ahead that jumps lead to.
#[derive(Debug)]
#[must_use]
pub(super) struct Label(Vec<usize>);

impl Label {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }
}

/// Instructions so far.
#[derive(Debug, Default)]
pub(super) struct Code(Vec<u64>);

impl Code {
    fn push(
        &mut self,
        opcode: u8,
        to: Register,
        from: u8,
        offset: i16,
        immediate: i32,
    ) -> &mut Self {
        let registers = u64::from(from << 4 | to as u8);
        let word = u64::from(opcode)
            | registers << 8
            | u64::from(offset as u16) << 16
            | (immediate as u32 as u64) << 32;
        self.0.push(word);
        self
    }

    /// `to = number`.
    pub(super) fn set(&mut self, to: Register, number: i32) -> &mut Self {
        self.push(0xb7, to, 0, 0, number)
    }

    /// `to = from`.
    pub(super) fn copy(&mut self, to: Register, from: Register) -> &mut Self {
        self.push(0xbf, to, from as u8, 0, 0)
    }

    /// `to += number`.
    pub(super) fn add(&mut self, to: Register, number: i32) -> &mut Self {
        self.push(0x07, to, 0, 0, number)
    }

    /// `to &= number`.
    pub(super) fn mask(&mut self, to: Register, number: i32) -> &mut Self {
        self.push(0x57, to, 0, 0, number)
    }

    /// The lower 16 bits of `register` from network order to that of the host.
    pub(super) fn host_order(&mut self, register: Register) -> &mut Self {
        self.push(0xdc, register, 0, 0, 16)
    }

    /// `to = *(from + offset)`.
    pub(super) fn load(
        &mut self,
        width: Width,
        to: Register,
        from: Register,
        offset: i16,
    ) -> &mut Self {
        self.push(0x61 | width as u8, to, from as u8, offset, 0)
    }

    /// `*(to + offset) = from`.
    pub(super) fn store(
        &mut self,
        width: Width,
        to: Register,
        offset: i16,
        from: Register,
    ) -> &mut Self {
        self.push(0x63 | width as u8, to, from as u8, offset, 0)
    }

    /// `to` is the map of a descriptor.
    pub(super) fn map(&mut self, to: Register, descriptor: i32) -> &mut Self {
        const PSEUDO_MAP_FD: u8 = 1;
        self.push(0x18, to, PSEUDO_MAP_FD, 0, descriptor)
            .push(0, Register::R0, 0, 0, 0)
    }

    /// Calls a function of the kernel: arguments in R1 to R5, which are lost, and the answer in R0.
    pub(super) fn call(&mut self, helper: Helper) -> &mut Self {
        self.push(0x85, Register::R0, 0, 0, helper as i32)
    }

    /// Returns R0.
    pub(super) fn exit(&mut self) -> &mut Self {
        self.push(0x95, Register::R0, 0, 0, 0)
    }

    /// Goes to `label` if it is so.
    pub(super) fn jump(
        &mut self,
        register: Register,
        condition: If,
        label: &mut Label,
    ) -> &mut Self {
        label.0.push(self.0.len());
        match condition {
            If::Always => self.push(0x05, Register::R0, 0, 0, 0),
            If::Is(number) => self.push(0x15, register, 0, 0, number),
            If::IsNot(number) => self.push(0x55, register, 0, 0, number),
            If::Has(bits) => self.push(0x45, register, 0, 0, bits),
            If::Above(other) => self.push(0x2d, register, other as u8, 0, 0),
        }
    }

    /// What jumps to `label` arrives here.
    pub(super) fn here(&mut self, label: Label) -> &mut Self {
        for jump in label.0 {
            let distance = (self.0.len() - jump - 1) as u16;
            self.0[jump] |= u64::from(distance) << 16;
        }
        self
    }

    /// All of them.
    pub(super) fn finish(self) -> Vec<u64> {
        self.0
    }
}
