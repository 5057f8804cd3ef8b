import { EnvInt, EnvSecret, loadConfig } from '#platform';

class SampleConfig {
  @EnvSecret() SAMPLE_SECRET: string;
  @EnvInt({ min: 0, max: 65_535 }) HTTP_PORT: number;
}

export const sampleConfig = (): SampleConfig => loadConfig(SampleConfig, process.env);
