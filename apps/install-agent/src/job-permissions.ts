import { type ComponentKind, type JobKind } from '#contracts';
import { type Needs } from './executor.js';
import { HELM_NEEDS } from './executors/helm.js';
import { IMAGE_NEEDS } from './executors/image.js';
import { JOB_NEEDS } from './executors/job.js';
import { MANIFESTS_NEEDS } from './executors/manifests.js';
import { TERRAFORM_NEEDS } from './executors/terraform.js';

/** What apply and destroy of each kind of component take. */
export const COMPONENT_NEEDS: Readonly<Record<ComponentKind, Needs>> = {
  'container-image': IMAGE_NEEDS,
  'external-image': IMAGE_NEEDS,
  'helm-chart': HELM_NEEDS,
  'terraform-module': TERRAFORM_NEEDS,
  'kubernetes-manifests': MANIFESTS_NEEDS,
  job: JOB_NEEDS,
};

/** What each job of the install agent takes from registries and from its host. */
export const JOB_NEEDS_OF: Readonly<
  Record<Exclude<JobKind, 'build'>, { readonly registry: string; readonly host: string }>
> = {
  sync: {
    registry:
      "vendor's: pull of one digest of one repository, by a token that works once; the install's: push and pull, with the agent's own key",
    host: 'nothing beside the journal, the log spool and the record',
  },
  apply: {
    registry: "the install's: pull of the component's repository",
    host: 'components/NAME and work/JOB.ATTEMPT; programs of the kind',
  },
  destroy: {
    registry: "the install's: pull, for a Terraform module with state only",
    host: 'components/NAME, which is removed; programs of the kind',
  },
  observe: {
    registry: "the install's: pull of the component's repository",
    host: 'work/JOB.ATTEMPT; programs of the kind; reads components/NAME',
  },
  noop: { registry: 'nothing', host: 'nothing beside the journal, the log spool and the record' },
};
