import tseslint from 'typescript-eslint';

const noProcessEnv = {
  selector: "MemberExpression[object.name='process'][property.name='env']",
  message: 'Read the environment in the config room only (platform loadConfig).',
};
const noExportStar = { selector: 'ExportAllDeclaration', message: 'Name what a room exports: no `export *`.' };
const noForwardRef = {
  selector: "CallExpression[callee.name='forwardRef']",
  message: 'A cycle between providers: split the room instead.',
};
/** libs/domain holds rules: the caller passes the time and the randomness, so that a failing case can be replayed. */
const pure = [
  {
    selector: "CallExpression[callee.object.name='Date'][callee.property.name='now']",
    message: 'Rules take `now` as an argument.',
  },
  { selector: "NewExpression[callee.name='Date'][arguments.length=0]", message: 'Rules take `now` as an argument.' },
  {
    selector: "CallExpression[callee.object.name='Math'][callee.property.name='random']",
    message: 'Rules take randomness as an argument.',
  },
  { selector: ':function[async=true]', message: 'Rules are synchronous.' },
  { selector: 'CallExpression[callee.name=/^set(Timeout|Interval|Immediate)$/]', message: 'Rules have no timers.' },
];

export default tseslint.config(
  { ignores: ['dist', 'node_modules', '.cache', '.demo', 'coverage', '**/*.mjs', '**/*.cjs', 'examples'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      // Wire shapes are classes for their decorators' sake; a literal of the same form is as good.
      '@typescript-eslint/no-unsafe-class-instance-assignment': 'off',
      '@typescript-eslint/no-misused-spread': 'off',
      '@typescript-eslint/no-extraneous-class': 'off',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-unnecessary-condition': 'off',
      '@typescript-eslint/unbound-method': 'off',
      '@typescript-eslint/no-unused-vars': ['error', { varsIgnorePattern: '^_', argsIgnorePattern: '^_' }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/no-unnecessary-type-parameters': 'off',
      'no-restricted-syntax': ['error', noProcessEnv, noExportStar, noForwardRef],
    },
  },
  {
    files: ['libs/domain/**/*.ts'],
    ignores: ['**/*.spec.ts'],
    rules: { 'no-restricted-syntax': ['error', noProcessEnv, noExportStar, noForwardRef, ...pure] },
  },
  {
    files: [
      '**/config.ts',
      '**/vite.config.ts',
      'apps/*/src/main.ts',
      'libs/stack/**/*.ts',
      'test/**/*.ts',
      'deploy/**/*.ts',
      '**/*.spec.ts',
      'libs/agent-kit/src/processes.ts',
    ],
    rules: { 'no-restricted-syntax': ['error', noExportStar, noForwardRef] },
  },
  {
    files: ['**/*.spec.ts', 'test/**/*.ts'],
    rules: { '@typescript-eslint/no-non-null-assertion': 'off' },
  },
);
