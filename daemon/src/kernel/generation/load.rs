//! The object, loaded with the maps of a generation.

use std::io;

use aya::EbpfLoader;

use super::{Generation, direct, unused};
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
        if are_there {
            unused::leave_out(&mut object, &self.unused()?).map_err(refuse)?;
        }
        let ebpf = loader
            .load(bytemuck::cast_slice(&object))
            .map_err(|error| refuse(reason(&error)))?;
        Ok(Loading::new(ebpf, direct))
    }

    /// Functions that none of its packets gets to.
    fn unused(&self) -> Result<Vec<&'static str>, KernelError> {
        let mut functions = Vec::new();
        if !self.knows_flows()? {
            functions.extend(unused::OF_NAMES);
        }
        if !self.knows_owners()? {
            functions.extend(unused::OF_APPLICATIONS);
        }
        Ok(functions)
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
