"""The files of deploy/ name what there is: options of the verb, paths and metrics of the service, its user and port."""

import json
import re
from pathlib import Path

import yaml

from kovilt.cli import serve
from kovilt.cli.arguments import CommandParser
from kovilt.serving import server
from kovilt.serving.settings import ServerSettings

DEPLOY = Path(__file__).resolve().parents[2] / 'deploy'
DOCKERFILE = (DEPLOY / 'Dockerfile').read_text('utf-8')
LINES = re.sub(r'\\\n\s*', '', re.sub(r'^#.*\n', '', DOCKERFILE, flags=re.M)).splitlines()
STEPS = [line.split(maxsplit=1) for line in LINES if line]


def parsed(arguments):
    parser = CommandParser(None)
    serve.add_arguments(parser)
    return parser.parse_args(arguments)


def manifests():
    return {one['kind']: one for one in yaml.safe_load_all((DEPLOY / 'kubernetes.yaml').read_text('utf-8'))}


def test_the_stages_of_the_image_name_what_there_is():
    """The image itself is not built here, where there is no Docker."""
    stages, known = [], 'ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL RUN USER WORKDIR'.split()
    assert {name for name, _ in STEPS} <= set(known)
    for name, rest in STEPS:
        if name == 'FROM':
            assert re.fullmatch(r'python:3\.1[1-9]-slim( AS \w+)?', rest)
            stages.append(rest.partition(' AS ')[2])
        for stage in re.findall(r'(?:--from=|[,=]from=)(\w+)', rest):
            assert stage in stages[:-1]
        for source in re.findall(r'--mount=type=bind(?!,from)[^ ]*source=([^, ]+)', rest):
            assert (DEPLOY.parent / source).exists()
        if name == 'COPY' and '--from=' not in rest:
            assert all((DEPLOY.parent / source).exists() for source in rest.split()[:-1])
        if 'apt-get install' in rest:
            assert '--no-install-recommends' in rest and 'rm -rf /var/lib/apt/lists/*' in rest
        if 'pip install' in rest:
            assert '--no-cache-dir' in rest
    last = [name for name, _ in STEPS[[name for name, _ in STEPS].index('FROM', 1) :]]
    assert max(place for place, name in enumerate(last) if name in ('RUN', 'COPY')) < last.index('USER')
    for name in ('ENTRYPOINT', 'CMD'):
        (words,) = [rest for step, rest in STEPS if step == name]
        assert isinstance(json.loads(words), list)  # no shell, which would not pass SIGTERM on


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
