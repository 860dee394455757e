"""The files of deploy/ name what there is: options of the verb, paths and metrics of the service, its user and port."""

import json
import re
from pathlib import Path

import yaml

from kovilt.cli import serve
from kovilt.cli.arguments import CommandParser
from kovilt.serving import server

DEPLOY = Path(__file__).resolve().parents[2] / 'deploy'
DOCKERFILE = (DEPLOY / 'Dockerfile').read_text('utf-8')


def parsed(arguments):
    parser = CommandParser(None)
    serve.add_arguments(parser)
    return parser.parse_args(arguments)


def manifests():
    return {one['kind']: one['spec'] for one in yaml.safe_load_all((DEPLOY / 'kubernetes.yaml').read_text('utf-8'))}


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
    service = yaml.safe_load((DEPLOY / 'compose.yaml').read_text('utf-8'))['services']['kovilt']
    assert parsed(service['command']).model == '/model' and service['read_only'] and len(service['tmpfs']) == 1
    assert int(service['stop_grace_period'].rstrip('s')) > server.DRAIN_SECONDS
    assert service['ports'] == ['127.0.0.1:8000:8000']
    assert (DEPLOY / service['build']['context'] / service['build']['dockerfile']).is_file()


def test_kubernetes_probes_and_scales_by_what_the_service_tells(client):
    found = manifests()
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
