import { ConfigError } from '#platform';
import { type RegistryTokenConfig } from '../config.js';
import { DistributionRegistry } from './distribution.js';
import { EcrRegistry, type AwsCredentials } from './ecr.js';
import { type VendorRegistry } from './port.js';

/** The registry that the configuration names. Throws ConfigError with every variable that its kind needs and lacks. */
export function chooseRegistry(config: RegistryTokenConfig): VendorRegistry {
  const faults: string[] = [];
  const need = (name: keyof RegistryTokenConfig): string => {
    const value = config[name];
    if (typeof value === 'string') return value;
    faults.push(`${name} is not set; a registry of kind ${config.VENDOR_REGISTRY_KIND} needs it`);
    return '';
  };
  const url = config.VENDOR_REGISTRY_URL;
  if (config.VENDOR_REGISTRY_KIND === 'distribution') {
    const settings = {
      url,
      privateKeyPem: need('REGISTRY_SIGNING_KEY'),
      certificatePem: need('REGISTRY_CERT'),
      issuer: config.REGISTRY_ISSUER,
      service: config.REGISTRY_SERVICE,
    };
    if (faults.length > 0) throw new ConfigError(faults);
    return new DistributionRegistry(settings);
  }
  const settings = {
    url,
    region: need('AWS_REGION'),
    accountId: need('ECR_ACCOUNT_ID'),
    sessionRoleArn: need('ECR_SESSION_ROLE_ARN'),
    pullMode: config.ECR_PULL_MODE,
    credentials: credentialsOf(config),
    ecrEndpoint: config.ECR_ENDPOINT,
    stsEndpoint: config.STS_ENDPOINT,
  };
  if (faults.length > 0) throw new ConfigError(faults);
  return new EcrRegistry(settings);
}

function credentialsOf(config: RegistryTokenConfig): AwsCredentials | undefined {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: token } = config;
  if (accessKeyId === undefined || secretAccessKey === undefined) return undefined;
  return { accessKeyId, secretAccessKey, ...(token === undefined ? {} : { sessionToken: token }) };
}
