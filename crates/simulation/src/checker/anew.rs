//! What must still hold when the log has begun anew.

use crate::failure::{Check, holds};
use crate::model::Model;
use crate::world::World;

impl World {
    /// What people were answered and told before the log began anew is what the log gives that goes on.
    pub(crate) fn still_holds(&self, before: &Model) -> Check {
        for (id, asked, answer) in self.history.answered() {
            let device = self.devices.get(asked.device).map_or(0, |device| device.id);
            let gives = self.model.answer(device, id.0);
            holds(gives.as_ref() == Some(answer), || {
                format!("{asked:?} was answered, and gives {gives:?} since the log began anew")
            })?;
        }
        for device in &self.devices {
            let Some(process) = &device.process else { continue };
            let told = |model: &Model| {
                let told = model.people.get(&device.user).map(|person| &person.told)?;
                told.get(..process.watch.told_so_far()).map(<[_]>::to_vec)
            };
            holds(told(&self.model) == told(before), || {
                format!("device {} was told what is not there any more since the log began anew", device.index)
            })?;
        }
        Ok(())
    }
}
