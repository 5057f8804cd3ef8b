import { ImsError, type JsonObject } from '#contracts';
import { isImageReference } from '#domain';
import { type Descriptor } from '#oci';
import { type BuildContext, type KindBuilder, type PushTarget } from '../kind.js';
import { keepLayer, pushLayer } from './packaged.js';

/** Something to run to completion: the artifact is what to run; the image is another component. */
export class JobComponent implements KindBuilder {
  async build(context: BuildContext): Promise<JsonObject> {
    const { run } = context.step.statement.spec;
    if (!run) throw new ImsError('source_invalid', 'the component says not what to run');
    if (!isImageReference(run.image)) {
      throw new ImsError('external_reference', `run.image: ${run.image} is not {{ components.<name>.outputs.image }}`);
    }
    const { image, command = [], args = [], timeout_seconds = 600 } = run;
    await keepLayer(context, Buffer.from(JSON.stringify({ image, command, args, timeout_seconds })));
    return {};
  }

  push(context: BuildContext, target: PushTarget): Promise<Descriptor> {
    return pushLayer(context, target, 'job');
  }
}
