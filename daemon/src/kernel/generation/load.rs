//! The object, loaded with the maps of a generation.

use std::io;

use aya::EbpfLoader;

use super::{Generation, direct};
use crate::kernel::bpf::program::Loading;
use crate::kernel::error::{KernelError, map_error, reason};
use crate::kernel::object::{OBJECT, OFFSETS, map_names};

impl Generation {
    /// The object, with its maps, but for those that are made: no program can be loaded before they
    /// all are there.
    pub(in crate::kernel) fn load(
        &self,
        sizes: impl FnOnce(&mut EbpfLoader<'static>),
    ) -> Result<Loading, KernelError> {
        let refuse = |reason| KernelError::Program {
            program: "object",
            reason,
        };
        let mut loader = self.loader()?;
        sizes(&mut loader);
        let mut object = self.memory.object(OBJECT);
        let are_there = direct::names().all(|name| self.dir.join(name).exists());
        let names = direct::names().filter(|_| are_there);
        let direct = names
            .map(|name| self.open_map(name))
            .collect::<Result<Vec<_>, _>>()?;
        direct::put_in_place(&mut object, &direct);
        let ebpf = loader
            .load(bytemuck::cast_slice(&object))
            .map_err(|error| refuse(reason(&error)))?;
        Ok(Loading::new(ebpf, direct))
    }

    fn loader(&self) -> Result<EbpfLoader<'static>, KernelError> {
        let mut loader = EbpfLoader::new();
        loader.override_global(OFFSETS, &self.memory.offsets, true);
        for name in map_names() {
            let pin = self.dir.join(name);
            if pin.exists() {
                // the object has 1, and aya accepts a pinned map only with the number of elements
                // of the object
                let error = map_error("open", name);
                let info = self
                    .open_map(name)?
                    .info()
                    .map_err(io::Error::other)
                    .map_err(error)?;
                loader.map_max_entries(name, info.max_entries());
            }
            loader.map_pin_path(name, pin);
        }
        Ok(loader)
    }
}
