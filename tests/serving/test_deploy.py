"""The files of deploy/ name what there is: options of the verb, paths and metrics of the service, its user and port."""

import json
import re
import subprocess
import sysconfig
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from kovilt.cli import serve
from kovilt.cli.arguments import CommandParser
from kovilt.serving import server
from kovilt.serving.settings import ServerSettings

DEPLOY = Path(__file__).resolve().parents[2] / 'deploy'
DOCKERFILE = (DEPLOY / 'Dockerfile').read_text('utf-8')


def parsed(arguments):
    parser = CommandParser(None)
    serve.add_arguments(parser)
    return parser.parse_args(arguments)


def manifests():
    return {one['kind']: one for one in yaml.safe_load_all((DEPLOY / 'kubernetes.yaml').read_text('utf-8'))}


def test_the_dockerfile_follows_the_rules_of_hadolint():
    """The image is not built here, where there is no Docker. DL3008 would pin Debian's packages, and their faults."""
    command = [Path(sysconfig.get_path('scripts')) / 'hadolint', '--failure-threshold', 'warning', '--ignore', 'DL3008']
    done = subprocess.run([*command, DEPLOY / 'Dockerfile'], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    stages = re.findall(r'^FROM \S+ AS (\w+)$', DOCKERFILE, re.M)
    for options, sources in re.findall(r'^COPY ((?:--\S+ )*)(.+) \S+$', DOCKERFILE, re.M):
        if stage := re.search(r'--from=(\w+)', options):
            assert stage[1] in stages
        else:
            assert all((DEPLOY.parent / source).exists() for source in sources.split())
    last = DOCKERFILE[DOCKERFILE.rindex('\nFROM ') :]
    assert max(last.rindex('\nRUN '), last.rindex('\nCOPY ')) < last.index('\nUSER ')


def test_the_image_serves_the_mounted_model_as_an_ordinary_user():
    (command,) = re.findall(r'^CMD (\[.*\])$', DOCKERFILE, re.M)
    args = parsed(json.loads(command))
    assert args.model == '/model' and args.host == '0.0.0.0' and args.port == 8000  # noqa: S104
    assert re.search(r'^USER [1-9]\d+:', DOCKERFILE, re.M) and 'EXPOSE 8000' in DOCKERFILE
    (program,) = re.findall(r'"-c", "(.*?)"\]', DOCKERFILE)
    compile(program, 'HEALTHCHECK', 'exec')
    assert ':8000/health' in program
    kept = set(re.findall(r'^!(\S+)', (DEPLOY / 'Dockerfile.dockerignore').read_text('utf-8'), re.M))
    assert all((DEPLOY.parent / name).exists() for name in kept)
    assert {'kovilt', 'requirements', 'setup.py', 'pyproject.toml', 'configs', 'tools', 'model-index.yml'} <= kept


def test_compose_gives_it_a_read_only_file_system_and_time_to_end():
    """And no rights, and the secret from the environment of whoever starts it."""
    service = yaml.safe_load((DEPLOY / 'compose.yaml').read_text('utf-8'))['services']['kovilt']
    assert parsed(service['command']).model == '/model' and service['read_only'] and len(service['tmpfs']) == 1
    assert int(service['stop_grace_period'].rstrip('s')) > server.DRAIN_SECONDS
    assert service['ports'] == ['127.0.0.1:8000:8000']
    assert service['cap_drop'] == ['ALL'] and service['security_opt'] == ['no-new-privileges:true']
    assert service['environment']['KOVILT_TOKEN'].startswith('${KOVILT_TOKEN:?')
    assert [volume.endswith('}:/model:ro') for volume in service['volumes']] == [True]
    assert (DEPLOY / service['build']['context'] / service['build']['dockerfile']).is_file()


def test_kubernetes_probes_and_scales_by_what_the_service_tells(client):
    found = {kind: one['spec'] for kind, one in manifests().items()}
    pod, scaler = found['Deployment']['template']['spec'], found['HorizontalPodAutoscaler']
    (container,) = pod['containers']
    assert parsed(container['args']).host == '0.0.0.0'  # noqa: S104
    for probe in ('startupProbe', 'readinessProbe', 'livenessProbe'):
        assert client.get(container[probe]['httpGet']['path']).status_code == 200
    (metric,) = scaler['metrics']
    assert re.search(rf'^{metric["pods"]["metric"]["name"]} ', client.get('/metrics').text, re.M)
    spare = container['lifecycle']['preStop']['sleep']['seconds'] + server.DRAIN_SECONDS
    assert pod['terminationGracePeriodSeconds'] > spare
    assert container['securityContext']['readOnlyRootFilesystem'] and pod['securityContext']['runAsNonRoot']
    assert {mount['name'] for mount in container['volumeMounts']} == {volume['name'] for volume in pod['volumes']}
    assert scaler['scaleTargetRef']['name'] == 'kovilt' and found['Service']['selector'] == {'app': 'kovilt'}


@pytest.mark.parametrize('version', ['1.30', '1.37'])
def test_the_manifest_has_the_schemas_of_kubernetes(version):
    assert set(manifests()) == {'Deployment', 'Service', 'HorizontalPodAutoscaler'}
    for one in manifests().values():
        kubernetes_validate.validate(one, version, strict=True)
    wrong = manifests()['Deployment']
    wrong['spec']['template']['spec']['containers'][0]['securityContext']['readOnlyRootFileSystem'] = True
    with pytest.raises(kubernetes_validate.ValidationError, match='readOnlyRootFileSystem'):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_kubernetes_gives_the_pod_no_rights_that_it_does_not_need():
    deployment = manifests()['Deployment']['spec']
    pod = deployment['template']['spec']
    (container,) = pod['containers']
    (user,) = re.findall(r'^USER (\d+):\1$', DOCKERFILE, re.M)
    assert pod['securityContext']['runAsNonRoot'] is True and pod['securityContext']['runAsUser'] == int(user)
    assert pod['securityContext']['seccompProfile'] == {'type': 'RuntimeDefault'}
    rights = container['securityContext']
    assert rights['allowPrivilegeEscalation'] is False and rights['capabilities'] == {'drop': ['ALL']}
    mounts = {mount['mountPath']: mount.get('readOnly', False) for mount in container['volumeMounts']}
    assert mounts == {'/model': True, '/tmp': False} and container['args'][0] == '/model'  # noqa: S108
    assert {'cpu', 'memory'} == set(container['resources']['requests']) and container['resources']['limits']['memory']
    assert container['env'][0]['valueFrom']['secretKeyRef'] and deployment['strategy']['rollingUpdate']


def test_the_names_in_the_manifest_lead_to_each_other():
    found = manifests()
    template, scaler = found['Deployment']['spec']['template'], found['HorizontalPodAutoscaler']['spec']
    labels = template['metadata']['labels']
    assert found['Deployment']['spec']['selector']['matchLabels'] == labels == found['Service']['spec']['selector']
    target = scaler['scaleTargetRef']
    assert all(target[key] == found['Deployment'][key] for key in ('apiVersion', 'kind'))
    assert target['name'] == found['Deployment']['metadata']['name'] == found['Service']['metadata']['name']
    (container,), (port,) = template['spec']['containers'], found['Service']['spec']['ports']
    ports = {one['name']: one['containerPort'] for one in container['ports']}
    probes = [container[name]['httpGet']['port'] for name in ('startupProbe', 'readinessProbe', 'livenessProbe')]
    assert {port['targetPort'], *probes} == set(ports) and set(ports.values()) == {parsed(container['args']).port}
    assert template['metadata']['annotations']['prometheus.io/port'] == str(*ports.values())
    assert 1 <= scaler['minReplicas'] < scaler['maxReplicas'] and scaler['metrics'][0]['type'] == 'Pods'
    assert int(scaler['metrics'][0]['pods']['target']['averageValue']) < ServerSettings(model='').max_queue


def test_the_page_shows_the_commands_of_the_files():
    page = (DEPLOY.parent / 'docs' / 'en' / 'deploy.md').read_text('utf-8')
    lines = ''.join(re.findall(r'^```sh\n(.*?)^```$', page, re.M | re.S)).splitlines()
    heads = ''.join(file.read_text('utf-8') for file in DEPLOY.iterdir())
    assert len(lines) >= 5 and [line for line in lines if line not in heads] == []
